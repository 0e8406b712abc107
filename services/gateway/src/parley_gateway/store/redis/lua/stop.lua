-- Sets a stop mark unless there is a later one. KEYS: 1 stop marks. ARGV: 1 lane, 2 time, 3 milliseconds.
local mark = redis.call('HGET', KEYS[1], ARGV[1])
if mark and tonumber(mark) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
