-- KEYS[1] numbers of tracks that gateways added; ARGV: external id, lowest number that the catalogue has free
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then
  return tonumber(known)
end
local number = math.max(tonumber(redis.call('HGET', KEYS[1], '') or '0'), tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], ARGV[1], number, '', number + 1)
return number
