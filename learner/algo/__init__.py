"""The algorithm: action, critics, actor, one compiled update, and how many updates are due."""
