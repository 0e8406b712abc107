-- Claims a delivery key and appends the message. KEYS: 14 the delivery key.
-- ARGV: 1 now, 2 lane, 3 conversation, 4 delivery key, 5 question's id, 6 sent at, 7 received at, 8 due since,
-- 9 expires at, 10 record, 11 trace, 12 the claim's end, 13 its milliseconds, 14 messages in a lane at most,
-- 15 messages in the partition at most, 16 channel, 17 what to tell there.
-- Returns what became of it, when it was offered first, which delivery this is, the first one's trace, the state.
local seen = redis.call('GET', KEYS[14])
if seen then
  local first, number, trace, ends = unpack(cmsgpack.unpack(seen))
  if tonumber(ends) > tonumber(ARGV[1]) then
    redis.call('SET', KEYS[14], cmsgpack.pack({first, number + 1, trace, ends}), 'KEEPTTL')
    return {'duplicate', first, number + 1, trace, state()}
  end
end
local lane = ARGV[2]
local depth = redis.call('ZLEXCOUNT', KEYS[4], '[' .. lane .. '\0', '(' .. lane .. '\1')
if depth >= tonumber(ARGV[14]) or redis.call('ZCARD', KEYS[11]) >= tonumber(ARGV[15]) then
  return {'full', ARGV[1], 1, '', state()}
end
redis.call('SET', KEYS[14], cmsgpack.pack({ARGV[1], 1, ARGV[11], ARGV[12]}), 'PX', ARGV[13])
append({lane, ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]}, ARGV[8], ARGV[1], ARGV[9], ARGV[10])
tell(ARGV[16], ARGV[17])
return {'accepted', ARGV[1], 1, ARGV[11], state()}
