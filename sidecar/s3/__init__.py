"""What S3 says, without asking anybody: operations, names, bodies and errors."""
