-- Counts an answer that can't be read as read, so that it hides no other. ARGV: 1 its id, 2 the request that was given
-- it, 3 now.
local one = kept(ARGV[1], ARGV[3])
if not one then return 0 end
set_next(ARGV[1], one, one[4])
redis.call('HDEL', KEYS[3], ARGV[2])
return 1
