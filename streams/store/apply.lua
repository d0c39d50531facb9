-- KEYS[1] checkpoint, KEYS[2..] collections
-- ARGV: epoch, owner, expected next offset ('' for none), new next offset,
--       then, for each collection in order: command (HSET, HDEL, ZADD or ZREM), number of arguments, the arguments
-- Returns one of 'applied', 'already', 'fenced', 'rolled_back'; only 'applied' has written anything.
local stored = redis.call('HMGET', KEYS[1], 'epoch', 'owner', 'next_offset')
if stored[1] ~= ARGV[1] or stored[2] ~= ARGV[2] then
  return 'fenced'
end
if stored[3] == ARGV[4] then
  return 'already'
end
if (stored[3] or '') ~= ARGV[3] then
  return 'rolled_back'
end
local CHUNK = 4000 -- below Lua's limit on unpacked values, and even, so pairs stay together
local at = 5
for k = 2, #KEYS do
  local command, count = ARGV[at], tonumber(ARGV[at + 1])
  at = at + 2
  local stop = at + count
  while at < stop do
    local last = math.min(at + CHUNK, stop) - 1
    redis.call(command, KEYS[k], unpack(ARGV, at, last))
    at = last + 1
  end
end
redis.call('HSET', KEYS[1], 'next_offset', ARGV[4])
return 'applied'
