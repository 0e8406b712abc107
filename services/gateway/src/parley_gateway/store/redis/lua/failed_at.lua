-- Returns the times at which the partition's dead letters failed, newest first. ARGV: 1 how many.
local found = redis.call('ZREVRANGE', KEYS[13], 0, ARGV[1] - 1, 'WITHSCORES')
local times = {}
for n = 2, #found, 2 do times[#times + 1] = found[n] end
return times
