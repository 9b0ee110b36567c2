"""Who asks: where a credential sits, and one file for each kind that is issued or verified."""
