-- KEYS[1] checkpoint   ARGV[1] owner, ARGV[2] topic id
-- Returns {epoch, next_offset or false, topic_id or false}; topic_id is what stood there before this claim.
local stored = redis.call('HMGET', KEYS[1], 'next_offset', 'topic_id')
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
if not stored[2] then
  redis.call('HSET', KEYS[1], 'topic_id', ARGV[2])
end
return {epoch, stored[1], stored[2]}
