-- KEYS[1] pointer, KEYS[2] history   ARGV: default namespace, expected, new, 'on' or 'back'
-- Returns the namespace that is live now; nothing was changed where that is not the new one.
local live = redis.call('GET', KEYS[1]) or ARGV[1]
if live ~= ARGV[2] then
  return live
end
if ARGV[4] == 'back' then
  if redis.call('LINDEX', KEYS[2], -1) ~= ARGV[3] then
    return live
  end
  redis.call('RPOP', KEYS[2])
else
  redis.call('RPUSH', KEYS[2], live)
end
redis.call('SET', KEYS[1], ARGV[3])
return ARGV[3]
