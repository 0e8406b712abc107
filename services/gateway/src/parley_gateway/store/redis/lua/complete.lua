-- Removes the head and stores what came of it. KEYS: 14 turns, 15 reset mark, 16 kept answers, 17 their records,
-- 18 requests and their parts, 19 references of the conversation's dead letters.
-- ARGV: 1 lane, 2 owner, 3 generation, 4 delivery key ('' for whatever is there), 5 now, 6 channel;
-- 7 the turn's record or '', 8 asked at, 9 expires at, 10 turns at most, 11 milliseconds that the history is kept;
-- 12 the answer's record or '', 13 its id, 14 delivery key, 15 number of parts, 16 expires at, 17 milliseconds,
-- 18 what to tell; 19 the dead letter's record or '', 20 reference, 21 reason, 22 failed at, 23 milliseconds.
-- Returns false when the lease is lost or the message isn't the head; else the state, and the record of the lane's
-- next message if that is due: the lane is still leased then.
local lane = ARGV[1]
if not held(lane, ARGV[2], ARGV[3]) then return false end
local id = head(lane)
local fields = id and item(id)
if not fields or (ARGV[4] ~= '' and fields[3] ~= ARGV[4]) then return false end
local reset = redis.call('GET', KEYS[15])
local remembered = ARGV[7] ~= '' and not (reset and tonumber(ARGV[8]) < tonumber(reset))
local over = {}
while remembered do
  local oldest = redis.call('ZRANGE', KEYS[14], #over, #over)[1]
  if not oldest or tonumber(string.match(oldest, '^%S+ (%S+)')) > tonumber(ARGV[5]) then break end
  over[#over + 1] = oldest
end
local given = ARGV[12] ~= '' and redis.call('HGETALL', KEYS[18]) or {}

remove(lane, id)
if remembered then
  for _, turn in ipairs(over) do redis.call('ZREM', KEYS[14], turn) end
  redis.call('ZADD', KEYS[14], ARGV[8], table.concat({id, ARGV[9], lane, ARGV[7]}, ' '))
  redis.call('ZREMRANGEBYRANK', KEYS[14], 0, -1 - ARGV[10])
  redis.call('PEXPIRE', KEYS[14], ARGV[11])
end
if ARGV[12] ~= '' then
  for n = 1, #given, 2 do
    if cmsgpack.unpack(given[n + 1])[1] == ARGV[13] then redis.call('HDEL', KEYS[18], given[n]) end
  end
  local kept = {ARGV[14], id, ARGV[5], tonumber(ARGV[15]), 0, ARGV[16], lane}
  redis.call('HSET', KEYS[16], ARGV[13], cmsgpack.pack(kept))
  redis.call('HSET', KEYS[17], ARGV[13], ARGV[12])
  redis.call('PEXPIRE', KEYS[16], ARGV[17])
  redis.call('PEXPIRE', KEYS[17], ARGV[17])
  redis.call('PEXPIRE', KEYS[18], ARGV[17])
end
if ARGV[19] ~= '' then
  bury(ARGV[20], {ARGV[21], ARGV[22], lane, ARGV[19]}, ARGV[22])
  redis.call('SADD', KEYS[19], ARGV[20])
  redis.call('PEXPIRE', KEYS[19], ARGV[23])
end
local following = head(lane)
local due = following and item(following)[8]
local record
if following and tonumber(due) <= tonumber(ARGV[5]) then
  redis.call('ZADD', KEYS[5], 'XX', due, lane)
  record = redis.call('HGET', KEYS[2], following)
else
  offer(lane, ARGV[5])
end
if ARGV[12] ~= '' then tell(ARGV[6], ARGV[18]) end
return {state(), record}
