"""What listens: the data plane and the ops port."""
