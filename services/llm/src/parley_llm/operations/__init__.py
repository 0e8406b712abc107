"""The endpoints of OpenAI's API that are served, one object each: what is peculiar to it, for every front."""
