-- Finds messages that nobody works on and whose time is over. ARGV: 1 now, 2 messages to look at, 3 messages to pass
-- over. Returns how many it looked at, and id, conversation, record of those found.
local ids = redis.call('ZRANGEBYSCORE', KEYS[10], '-inf', ARGV[1], 'LIMIT', ARGV[3], ARGV[2])
local found = {}
for _, id in ipairs(ids) do
  local fields = item(id)
  if not in_work(fields[1], id, ARGV[1]) then
    found[#found + 1] = {id, fields[2], redis.call('HGET', KEYS[2], id)}
  end
end
return {#ids, found}
