"""What a workspace's file means: from text to compiled rules to a verdict."""
