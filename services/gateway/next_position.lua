-- KEYS[1] session of a listener
-- ARGV: id of the listen, text of the call, 1 if the text contains a key, 1 if the listen ends the session,
--       gap in ms, for how long in ms a session that ended is kept
-- Returns {session, position, last recommendation, id of the listen, 1 if the call was answered already}.
local session, listens, listen, said, answered, ended, led_by =
  unpack(redis.call('HMGET', KEYS[1], 'id', 'listens', 'listen', 'said', 'answered', 'ended', 'led_by'))
listens = tonumber(listens)
local ends = ARGV[4] == '1'
if said == ARGV[2] and (not answered or ARGV[3] == '1') then -- a retry of the last call
  redis.call('PEXPIRE', KEYS[1], ends and ARGV[6] or ARGV[5])
  return {session, listens - 1, led_by, listen, answered and 1 or 0}
end
local starts = ended or not session
if starts then
  session, listens, led_by = ARGV[1], 0, false
end
-- The first write must be one that Redis refuses when it is out of memory: after any other, a script continues.
redis.call('HSET', KEYS[1], 'id', session, 'listens', listens + 1, 'listen', ARGV[1], 'said', ARGV[2])
if starts then
  redis.call('HDEL', KEYS[1], 'answered', 'ended', 'led_by')
else
  redis.call('HDEL', KEYS[1], 'answered')
end
if ends then
  redis.call('HSET', KEYS[1], 'ended', 1)
end
redis.call('PEXPIRE', KEYS[1], ends and ARGV[6] or ARGV[5])
return {session, listens, led_by, ARGV[1], 0}
