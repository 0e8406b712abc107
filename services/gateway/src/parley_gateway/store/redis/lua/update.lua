-- Writes the head's record. ARGV: 1 lane, 2 owner, 3 generation, 4 delivery key, 5 record, 6 due at, 7 expires at.
-- Returns the state, false when the lease is lost or the message isn't the head.
local lane = ARGV[1]
if not held(lane, ARGV[2], ARGV[3]) then return false end
local id = head(lane)
local fields = id and item(id)
if not fields or fields[3] ~= ARGV[4] then return false end
fields[8] = later(ARGV[6], fields[7])
redis.call('HSET', KEYS[2], id, ARGV[5])
redis.call('HSET', KEYS[3], id, cmsgpack.pack(fields))
redis.call('ZADD', KEYS[10], ARGV[7], id)
redis.call('ZADD', KEYS[5], 'XX', fields[8], lane)
return state()
