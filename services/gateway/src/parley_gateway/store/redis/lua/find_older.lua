-- Finds questions that nobody works on and that were received before a time. ARGV: 1 now, 2 messages to look at,
-- 3 messages to pass over, 4 the time, 5 how their conversations' keys begin. The lanes of commands end with `!`.
-- Returns how many it looked at, and id, conversation, record of those found.
local ids = redis.call('ZRANGE', KEYS[11], ARGV[3], ARGV[3] + ARGV[2] - 1)
local found = {}
for _, id in ipairs(ids) do
  local fields = item(id)
  local meant = string.sub(fields[2], 1, #ARGV[5]) == ARGV[5] and string.sub(fields[1], -1) ~= '!'
  if meant and tonumber(fields[6]) < tonumber(ARGV[4]) and not in_work(fields[1], id, ARGV[1]) then
    found[#found + 1] = {id, fields[2], redis.call('HGET', KEYS[2], id)}
  end
end
return {#ids, found}
