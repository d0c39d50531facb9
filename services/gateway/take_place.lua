-- KEYS[1] session of a listener
-- ARGV: id of the listen, what the call says, 1 where the call has a key of its own, 1 where the listen ends the session,
--       gap in ms, for how long in ms a session that ended is kept
-- Returns {session, position, what led to the listen, id of the listen, 1 where it was answered already}.
local session, listens, listen, said, answered, ended, led_by =
  unpack(redis.call('HMGET', KEYS[1], 'id', 'listens', 'listen', 'said', 'answered', 'ended', 'led_by'))
listens = tonumber(listens)
local ends = ARGV[4] == '1'
if said == ARGV[2] and (not answered or ARGV[3] == '1') then -- the last call once more
  redis.call('PEXPIRE', KEYS[1], ends and ARGV[6] or ARGV[5])
  return {session, listens - 1, led_by, listen, answered and 1 or 0}
end
local anew = ended or not session
if anew then
  session, listens, led_by = ARGV[1], 0, false
end
-- The first write is one that Redis refuses when it is out of memory: after any other, it lets a script go on.
redis.call('HSET', KEYS[1], 'id', session, 'listens', listens + 1, 'listen', ARGV[1], 'said', ARGV[2])
if anew then
  redis.call('HDEL', KEYS[1], 'answered', 'ended', 'led_by')
else
  redis.call('HDEL', KEYS[1], 'answered')
end
if ends then
  redis.call('HSET', KEYS[1], 'ended', 1)
end
redis.call('PEXPIRE', KEYS[1], ends and ARGV[6] or ARGV[5])
return {session, listens, led_by, ARGV[1], 0}
