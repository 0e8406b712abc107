-- Returns the records behind the head of a leased lane, false when the lease is lost. ARGV: 1 lane, 2 owner,
-- 3 generation, 4 how many.
local lane = ARGV[1]
if not held(lane, ARGV[2], ARGV[3]) then return false end
local members = redis.call('ZRANGEBYLEX', KEYS[4], '[' .. lane .. '\0', '(' .. lane .. '\1', 'LIMIT', 1, ARGV[4])
local records = {}
for n, member in ipairs(members) do records[n] = redis.call('HGET', KEYS[2], string.sub(member, -ID)) end
return records
