-- Returns how many answers have unread parts. ARGV: 1 now.
local all = redis.call('HGETALL', KEYS[1])
local count = 0
for n = 2, #all, 2 do
  local one = cmsgpack.unpack(all[n])
  if tonumber(one[6]) > tonumber(ARGV[1]) and one[5] < one[4] then count = count + 1 end
end
return count
