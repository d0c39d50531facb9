-- KEYS[1] session of a listener; ARGV: id of the listen that was answered, the recommendation, empty where there is none
-- A session that expired meanwhile must not come back without its id and its expiry.
if redis.call('HGET', KEYS[1], 'listen') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'answered', 1)
  if ARGV[2] ~= '' then
    redis.call('HSET', KEYS[1], 'led_by', ARGV[2])
  end
end
