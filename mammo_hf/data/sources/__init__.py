"""The sources: a module a collection, each with NAME, LOOKS_FOR, LICENCE, TASKS, `recognises(root)`, `load(root)`."""
