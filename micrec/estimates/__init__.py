"""What a long run takes, told before it begins: memory counted from shapes, time from the pace of its first steps."""
