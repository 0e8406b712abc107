-- Moves a dead letter to the end of its lane. ARGV: 1 now, 2 reference, 3 SHA-1 of the letter, 4 record, 5 lane,
-- 6 conversation, 7 delivery key, 8 question's id, 9 expires at, 10 channel, 11 what to tell.
-- Returns the state, false when the letter has gone or has changed.
local letter = redis.call('HGET', KEYS[12], ARGV[2])
if not letter or redis.sha1hex(letter) ~= ARGV[3] then return false end
redis.call('HDEL', KEYS[12], ARGV[2])
redis.call('ZREM', KEYS[13], ARGV[2])
append({ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[1], ARGV[1]}, ARGV[1], ARGV[1], ARGV[9], ARGV[4])
tell(ARGV[10], ARGV[11])
return state()
