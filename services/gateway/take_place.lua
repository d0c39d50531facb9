-- KEYS[1] session of a listener; ARGV: id of a new session, gap in ms, 1 where the listen ends the session
local position = redis.call('HINCRBY', KEYS[1], 'listens', 1) - 1
if position == 0 then
  redis.call('HSET', KEYS[1], 'id', ARGV[1])
end
local session = redis.call('HMGET', KEYS[1], 'id', 'led_by')
if ARGV[3] == '1' then
  redis.call('DEL', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return {session[1], position, session[2]}
