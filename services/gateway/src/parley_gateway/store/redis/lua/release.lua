-- Gives a lane back. ARGV: 1 lane, 2 owner, 3 generation, 4 now, 5 channel, 6 what to tell.
-- Returns the state, false when the lane was lost already.
if not held(ARGV[1], ARGV[2], ARGV[3]) then return false end
offer(ARGV[1], ARGV[4])
tell(ARGV[5], ARGV[6])
return state()
