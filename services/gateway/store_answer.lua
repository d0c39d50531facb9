-- KEYS[1] session of a listener; ARGV: id of the answered listen, the recommendation (empty if there is none)
-- Does not revive a session that has expired since: it would have neither an id nor an expiry.
if redis.call('HGET', KEYS[1], 'listen') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'answered', 1)
  if ARGV[2] ~= '' then
    redis.call('HSET', KEYS[1], 'led_by', ARGV[2])
  end
end
