-- Erases what a conversation, or a lane of questions and its commands, put into the store. KEYS: 14 turns, 15 reset
-- mark, 16 kept answers, 17 their records, 18 requests and their parts, 19 references of the conversation's dead
-- letters, 20 stop marks, 21 blobs. ARGV: 1 now, 2 conversation, 3 lane ('' for all), 4 messages sent before,
-- 5 messages at most, 6 milliseconds of a mark, 7 channel, 8 what to tell.
-- Returns how many records went, whether there may be more messages, the references of blobs to delete, the state.
local lane = ARGV[3]
local function whose(name)
  return lane == '' or name == lane or name == lane .. '!'
end
local function matching(pairs_, lane_of)
  local names = {}
  for n = 1, #pairs_, 2 do
    if whose(lane_of(pairs_[n], pairs_[n + 1])) then names[#names + 1] = pairs_[n] end
  end
  return names
end
local members = redis.call('ZRANGEBYLEX', KEYS[4], '[' .. ARGV[2], '(' .. ARGV[2] .. '$', 'LIMIT', 0, ARGV[5])
local messages = {}
for _, member in ipairs(members) do
  local id = string.sub(member, -ID)
  local fields = item(id)
  if whose(fields[1]) and tonumber(fields[5]) < tonumber(ARGV[4]) then messages[#messages + 1] = {fields[1], id} end
end
local turns = {}
for _, member in ipairs(redis.call('ZRANGE', KEYS[14], 0, -1)) do
  if whose(string.match(member, '^%S+ %S+ (%S+) ')) then turns[#turns + 1] = member end
end
local kept = matching(redis.call('HGETALL', KEYS[16]), function(_, packed) return cmsgpack.unpack(packed)[7] end)
local given = redis.call('HGETALL', KEYS[18])
local letters = {}
for _, reference in ipairs(redis.call('SMEMBERS', KEYS[19])) do
  local packed = redis.call('HGET', KEYS[12], reference)
  if packed and whose(cmsgpack.unpack(packed)[3]) then letters[#letters + 1] = reference end
end
local stops = matching(redis.call('HGETALL', KEYS[20]), function(name) return name end)
local blobs = matching(redis.call('HGETALL', KEYS[21]), function(_, name) return name end)
local reset = redis.call('GET', KEYS[15])

for _, message in ipairs(messages) do take_out(message[1], message[2], ARGV[1]) end
for _, member in ipairs(turns) do redis.call('ZREM', KEYS[14], member) end
for _, name in ipairs(kept) do
  redis.call('HDEL', KEYS[16], name)
  redis.call('HDEL', KEYS[17], name)
  for n = 1, #given, 2 do
    if cmsgpack.unpack(given[n + 1])[1] == name then redis.call('HDEL', KEYS[18], given[n]) end
  end
end
for _, reference in ipairs(letters) do
  redis.call('HDEL', KEYS[12], reference)
  redis.call('ZREM', KEYS[13], reference)
  redis.call('SREM', KEYS[19], reference)
end
for _, name in ipairs(stops) do redis.call('HDEL', KEYS[20], name) end
for _, ref in ipairs(blobs) do redis.call('HDEL', KEYS[21], ref) end
if lane == '' then
  redis.call('SET', KEYS[15], reset and later(reset, ARGV[4]) or ARGV[4], 'PX', ARGV[6])
end
tell(ARGV[7], ARGV[8])
return {
  #messages + #turns + #kept + #letters + #stops + #blobs,
  #messages > 0 and #members == tonumber(ARGV[5]) and 1 or 0, blobs, state()
}
