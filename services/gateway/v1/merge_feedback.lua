-- KEYS[1] what a listener said of tracks; ARGV: track, kind, event time in ms, 1 if it is withdrawn
-- The newest counts, of equally new ones the last in the alphabet, so copies and any order give the same.
local said = redis.call('HGET', KEYS[1], ARGV[1])
if said then
  local time, kind = string.match(said, '^(%d+) (.+)$')
  local newer = tonumber(time) > tonumber(ARGV[3])
  if newer or (tonumber(time) == tonumber(ARGV[3]) and kind > ARGV[2]) then
    return 0
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. ' ' .. ARGV[2])
return 1
