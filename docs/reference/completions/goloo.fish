complete --keep-order --exclusive --command goloo --arguments "(COMPLETE=fish goloo -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
