"""What a careless change could do, done on purpose: the tests must notice.

Each file of mutants breaks one group of rules, each mutant one piece of the source. `make mutants`
breaks them all in turn, and says which test noticed, and how soon.
"""
