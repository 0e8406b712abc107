-- Deletes a value if it is still this one. KEYS: 1 value. ARGV: 1 value.
if redis.call('HGET', KEYS[1], 'value') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
