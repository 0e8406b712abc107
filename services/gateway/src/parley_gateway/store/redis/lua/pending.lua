-- Returns id and question's id of a conversation's messages, lane by lane. ARGV: 1 conversation, 2 messages at most.
-- The names of a conversation's lanes are its key, perhaps with `!` or `#` and more behind it: all before `$`.
local found = redis.call('ZRANGEBYLEX', KEYS[4], '[' .. ARGV[1], '(' .. ARGV[1] .. '$', 'LIMIT', 0, ARGV[2])
local questions = {}
for _, member in ipairs(found) do
  local id = string.sub(member, -ID)
  local question = item(id)[4]
  if question ~= '' then
    questions[#questions + 1] = id
    questions[#questions + 1] = question
  end
end
return questions
