-- Returns a kept answer's record, false when there is none. ARGV: 1 its id, 2 now.
return kept(ARGV[1], ARGV[2]) and redis.call('HGET', KEYS[2], ARGV[1])
