-- Notes whose a blob is. KEYS: 1 blobs of a conversation. ARGV: 1 reference, 2 lane, 3 milliseconds.
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
