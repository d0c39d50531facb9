-- KEYS[1] session of a listener; ARGV: id of the session, the recommendation it was given
-- A session that ended or expired meanwhile must not come back without its id and its expiry.
if redis.call('HGET', KEYS[1], 'id') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'led_by', ARGV[2])
end
