-- Forgets the turns asked up to a time and refuses older ones from now on. KEYS: 1 turns, 2 reset mark.
-- ARGV: 1 the time, 2 milliseconds of the mark. Returns how many turns went.
local mark = redis.call('GET', KEYS[2])
if not mark or tonumber(mark) < tonumber(ARGV[1]) then redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2]) end
return redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
