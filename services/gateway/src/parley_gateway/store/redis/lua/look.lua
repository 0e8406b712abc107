-- Returns the state.
return state()
