-- What the scripts on kept answers begin with. KEYS: 1 kept answers, 2 their records, 3 requests and their parts.
-- A kept answer is: delivery key, id of its place, created at, number of parts, next part, expires at, lane.
local function kept(name, now)
  local packed = redis.call('HGET', KEYS[1], name)
  local one = packed and cmsgpack.unpack(packed)
  return one and tonumber(one[6]) > tonumber(now) and one
end

local function set_next(name, one, at_least)
  one[5] = math.max(one[5], at_least)
  redis.call('HSET', KEYS[1], name, cmsgpack.pack(one))
end
