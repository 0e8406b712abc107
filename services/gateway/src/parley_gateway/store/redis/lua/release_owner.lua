-- Gives back every lane of an owner. ARGV: 1 owner, 2 now, 3 channel, 4 what to tell.
-- Returns how many there were, and the state.
local holders = redis.call('HGETALL', KEYS[7])
local released = 0
for n = 1, #holders, 2 do
  if holders[n + 1] == ARGV[1] then
    offer(holders[n], ARGV[2])
    released = released + 1
  end
end
if released > 0 then tell(ARGV[3], ARGV[4]) end
return {released, state()}
