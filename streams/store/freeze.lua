-- KEYS[1] checkpoint, KEYS[2..n+1] collections, KEYS[n+2..2n+1] their copies   ARGV[1] seconds the copies live
-- Returns {next_offset, topic_id, first_offset, letters}, each or false, as they are with that content.
local n = (#KEYS - 1) / 2
for i = 2, n + 1 do
  if redis.call('COPY', KEYS[i], KEYS[i + n], 'REPLACE') == 1 then
    redis.call('EXPIRE', KEYS[i + n], ARGV[1])
  else
    redis.call('UNLINK', KEYS[i + n])
  end
end
return redis.call('HMGET', KEYS[1], 'next_offset', 'topic_id', 'first_offset', 'letters')
