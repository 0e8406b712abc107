-- Returns reference, SHA-1, and the letter of a dead letter, false when there is none. ARGV: 1 reference.
local packed = redis.call('HGET', KEYS[12], ARGV[1])
return packed and {ARGV[1], redis.sha1hex(packed), cmsgpack.unpack(packed)}
