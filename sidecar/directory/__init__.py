"""Who belongs where: people, whether they are active, and their groups (rule 9)."""
