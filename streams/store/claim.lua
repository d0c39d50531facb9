-- KEYS[1] checkpoint   ARGV[1] owner, ARGV[2] topic id, ARGV[3] letters, or '' to note none
-- Returns {epoch, next_offset or false, topic_id or false, letters or false}; topic_id is what stood there before this
-- claim. Letters are noted as long as nothing was folded.
local stored = redis.call('HMGET', KEYS[1], 'next_offset', 'topic_id', 'letters')
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
if not stored[2] then
  redis.call('HSET', KEYS[1], 'topic_id', ARGV[2])
end
if ARGV[3] ~= '' and (not stored[1] or stored[1] == '0') then
  redis.call('HSET', KEYS[1], 'letters', ARGV[3])
  stored[3] = ARGV[3]
end
return {epoch, stored[1], stored[2], stored[3]}
