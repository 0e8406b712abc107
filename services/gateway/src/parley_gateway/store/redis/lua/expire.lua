-- Turns a message into a dead letter, and into a notice if there is to be one. KEYS: 14 references of the
-- conversation's dead letters. ARGV: 1 now, 2 id, 3 SHA-1 of the record, 4 reference, 5 reason, 6 milliseconds that
-- dead letters are kept, 7 channel, 8 what to tell; 9 the notice's record or '', 10 lane, 11 conversation,
-- 12 delivery key, 13 question's id, 14 sent at, 15 expires at.
-- Returns the state; false when the message has gone, has changed, or is in work.
local record = redis.call('HGET', KEYS[2], ARGV[2])
if not record or redis.sha1hex(record) ~= ARGV[3] then return false end
local lane = item(ARGV[2])[1]
if in_work(lane, ARGV[2], ARGV[1]) then return false end
take_out(lane, ARGV[2], ARGV[1])
bury(ARGV[4], {ARGV[5], ARGV[1], lane, record}, ARGV[1])
redis.call('SADD', KEYS[14], ARGV[4])
redis.call('PEXPIRE', KEYS[14], ARGV[6])
if ARGV[9] ~= '' then
  append({ARGV[10], ARGV[11], ARGV[12], ARGV[13], ARGV[14], ARGV[1]}, ARGV[1], ARGV[1], ARGV[15], ARGV[9])
end
tell(ARGV[7], ARGV[8])
return state()
