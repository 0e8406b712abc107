-- Gives a request its part. ARGV: 1 request, 2 whether an answer is named (1 or 0), 3 its id, 4 now.
-- Returns id, part, record, and 1 if the part was the request's before; false when there is nothing to read.
local named = ARGV[2] == '1'
local all = redis.call('HGETALL', KEYS[1])
local own, oldest
local unread = {}
for n = 1, #all, 2 do
  local one = cmsgpack.unpack(all[n + 1])
  if tonumber(one[6]) > tonumber(ARGV[4]) then
    if one[1] == ARGV[1] and one[4] > 0 then own = all[n] end
    if one[5] < one[4] and (not named or all[n] == ARGV[3]) then
      local at = tonumber(one[3])
      if not oldest or at < oldest[1] or (at == oldest[1] and one[2] < oldest[2]) then
        oldest = {at, one[2], all[n], one[5], one[6]}
      end
    end
  end
end
local name, part, before
if own and named and own == ARGV[3] then
  name, part, before = own, 0, 1
else
  local packed = redis.call('HGET', KEYS[3], ARGV[1])
  local given = packed and cmsgpack.unpack(packed)
  if given and tonumber(given[3]) > tonumber(ARGV[4]) and kept(given[1], ARGV[4]) then
    name, part, before = given[1], given[2], 1
  elseif own then
    name, part, before = own, 0, 1
  elseif oldest then
    name, part, before = oldest[3], oldest[4], 0
  else
    return false
  end
end
local one = kept(name, ARGV[4])
if before == 0 then
  redis.call('HSET', KEYS[3], ARGV[1], cmsgpack.pack({name, part, oldest[5]}))
  redis.call('PEXPIRE', KEYS[3], redis.call('PTTL', KEYS[1]))
end
set_next(name, one, part + 1)
return {name, part, redis.call('HGET', KEYS[2], name), before}
