"""How sure a study is: estimates, tests, looks, and the verdicts on its claims."""
