"""What each kind of report says, made from the contents of ``results.json``; how it is drawn is said beside."""
