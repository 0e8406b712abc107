-- Returns reference, SHA-1, and the letter of the newest dead letters. ARGV: 1 how many.
local letters = {}
for n, reference in ipairs(redis.call('ZREVRANGE', KEYS[13], 0, ARGV[1] - 1)) do
  local packed = redis.call('HGET', KEYS[12], reference)
  letters[n] = {reference, redis.sha1hex(packed), cmsgpack.unpack(packed)}
end
return letters
