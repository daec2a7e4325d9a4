"""Shapes of English titles by style, and the small words that fill them.

A template holds ``{a}`` … ``{d}`` for telling phrases, which are plurals, names or substances and need no article, and
at most three of the other fields for words that tell nothing. No template holds a word twice but for short ones.
"""

FIELDS: dict[str, tuple[str, ...]] = {
    "number": ("Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve"),
    "who": (
        "beginners", "busy people", "sceptics", "night owls", "total novices", "newcomers", "the impatient",
        "late starters", "the curious", "perfectionists", "tired parents", "everyone", "purists", "old hands",
    ),
    "when": (
        "rainy Sunday", "quiet evening", "long weekend", "free afternoon", "slow Monday", "short lunch break",
        "cold January", "lazy holiday", "busy Friday", "single morning",
    ),
    "span": (
        "ten minutes", "an hour", "a week", "thirty days", "one year", "a single take",
        "fifteen minutes", "two days",
    ),
    "place": (
        "Norwell", "Tarnbeck", "Osterholt", "Millhaven", "Quennock", "Brackwater", "Sundbury", "Velmar",
        "Harrowgate Bay", "Lindenau", "Port Asher", "Kelsmere", "Dunvale", "Marisco", "Wyndham Cross", "Ardenfell",
    ),
    "brand": (
        "Norda", "Velmont", "Brixley", "Tamaro", "Okendal", "Fenwick & Rowe", "Lumeno", "Hartsel", "Quillon",
        "Straverne", "Mistral Lane", "Pinnock", "Zelbo", "Corvane", "Aldermoor", "Ettico",
    ),
    "colour": (
        "dark green", "cream", "navy", "terracotta", "slate grey", "mustard", "ivory", "black", "sky blue", "burgundy",
    ),
    "pack": (
        "set of 2", "pack of 3", "box of 6", "twin pack", "assorted", "value bundle", "pack of 12", "gift box",
        "double pack", "trial size",
    ),
    "pages": ("96 pages", "144 pages", "180 pages", "224 pages", "256 pages", "312 pages", "400 pages"),
    "binding": ("hardback", "paperback", "spiral bound", "second edition", "third edition", "illustrated"),
    "size": ("A5", "A4", "A3", "30 x 40 cm", "50 x 70 cm", "large", "small", "medium"),
    "month": ("January", "March", "May", "July", "September", "November"),
    "expert": ("Experts", "Residents", "Analysts", "Researchers", "Readers", "Campaigners", "Insiders", "Critics"),
}  # fmt: skip

VIDEO: dict[int, tuple[str, ...]] = {
    1: (
        "{number} things nobody tells you about {a}",
        "{a} for {who}",
        "The truth about {a}",
        "How we fell in love with {a}",
        "{a} on a {when}",
        "Learning {a} in {span}",
        "What went wrong with {a}",
        "{a}, explained for {who}",
    ),
    2: (
        "{number} lessons from {a} and {b}",
        "From {a} to {b} in {span}",
        "{a} and {b} for {who}",
        "Why we swapped {a} for {b}",
        "{a} or {b}? An honest answer",
        "What {a} taught us about {b}",
        "{a}, {b} and a {when}",
        "Behind the scenes: {a} and {b}",
        "{a} versus {b}",
        "A {when} with {a} and {b}",
        "Watch this before you try {a} or {b}",
        "{number} myths about {a} and {b}",
        "{a}: the secret is {b}",
        "We tested {a} and {b} for {span}",
    ),
    3: (
        "{a}, {b} and {c} for {who}",
        "{number} ideas with {a}, {b} and {c}",
        "From {a} and {b} to {c}",
        "{a} or {b}? What {c} can tell us",
        "{a} with {b} and {c}, step by step",
        "Everything about {a}, {b} and {c} in {span}",
        "{a}: {b}, {c} and a {when}",
        "All about {a}: {b} and {c}",
        "We compared {a}, {b} and {c}",
        "Mistakes people make with {a}, {b} and {c}",
        "{a}, then {b}, then {c}",
        "My {when}: {a}, {b} and {c}",
    ),
    4: (
        "{a}, {b}, {c} and {d}",
        "From {a} and {b} to {c} and {d}",
        "Ranking {a}, {b}, {c} and {d}",
        "{a} and {b}, plus {c} and {d}",
        "{a}, {b}, {c}, {d}: a {when} well spent",
        "{a} and {b} for {who}, with {c} and {d}",
        "{span} with {a}, {b}, {c} and {d}",
    ),
}

NEWS: dict[int, tuple[str, ...]] = {
    1: (
        "{expert} disagree about {a}",
        "New figures on {a} surprise {place}",
        "{place} debates {a}",
        "{a}: what changes in {month}",
        "Study sheds light on {a}",
        "{place} turns to {a}",
        "Opinion: enough about {a}",
        "{expert} look again at {a}",
    ),
    2: (
        "Between {a} and {b}: a year in {place}",
        "{a} after {b}: what we know so far",
        "Growing interest in {a} and {b}",
        "Debate over {a} and {b} divides {place}",
        "How {a} and {b} shaped {place}",
        "{expert} see a link between {a} and {b}",
        "Questions remain over {a} and {b}",
        "From {a} to {b}: the story of {place}",
        "{place} bets on {a} and {b}",
        "{number} questions about {a} and {b}",
        "Opinion: less {a}, more {b}",
        "{a} and {b}: the {month} report",
    ),
    3: (
        "{a}, {b} and {c}: the week in {place}",
        "Report links {a} and {b} to {c}",
        "{place} weighs {a} against {b} and {c}",
        "{expert} on {a}, {b} and {c}",
        "{a} and {b} return as {place} rethinks {c}",
        "Inside {place}: {a}, {b} and {c}",
        "{number} charts on {a}, {b} and {c}",
        "After {a} and {b}, now {c}",
        "{a}, {b}, {c}: what {month} brings",
    ),
    4: (
        "{a} and {b} gain ground, {c} and {d} do not",
        "{a}, {b}, {c} and {d}: {month} in brief",
        "{place} between {a}, {b}, {c} and {d}",
        "{expert} rank {a}, {b}, {c} and {d}",
        "From {a} and {b} to {c} and {d}: a review",
    ),
}

SHOP: dict[int, tuple[str, ...]] = {
    1: (
        "{brand} handbook of {a}, {binding}, {pages}",
        "Wall calendar: {a}, {size}",
        "Notebook with {a}, {colour}, {pages}",
        "Jigsaw puzzle, {a}, 1,000 pieces",
        "{brand} starter kit for {a}",
        "Tea towel with {a}, {colour}",
    ),
    2: (
        "{a} and {b}: the illustrated guide, {pages}",
        "Poster, {a} and {b}, {size}",
        "Mug with {a} and {b}, {colour}",
        "Card game, {a} and {b}, 2 to 6 players",
        "{brand} kit for {a} and {b}, {pack}",
        "Tote bag, {a} and {b}, {colour}",
        "{brand} guide to {a} and {b}, {binding}",
        "From {a} to {b}, {binding}, {pages}",
        "Audiobook: {a} and {b}, unabridged",
    ),
    3: (
        "{brand} beginner's kit: {a}, {b} and {c}",
        "Three volumes: {a}, {b} and {c}, {binding}",
        "Sticker sheet, {a}, {b} and {c}, {size}",
        "{a}, {b} and {c}: a handbook, {pages}",
        "Print set: {a}, {b} and {c}, {size}, unframed",
        "Memory game: {a}, {b} and {c}, {pack}",
    ),
    4: (
        "{brand} collection: {a}, {b}, {c} and {d}",
        "Encyclopaedia of {a}, {b}, {c} and {d}, {pages}",
        "{a}, {b}, {c} and {d}, {binding}, {pages}",
        "Postcards: {a}, {b}, {c} and {d}, {pack}",
    ),
}

GOODS: dict[int, tuple[str, ...]] = {
    1: (
        "{brand} {a}, {pack}",
        "{a}, imported, {pack}",
        "{a} by {brand}, {pack}",
        "Assorted {a} by {brand}",
        "{brand} guide to {a}, {binding}",
    ),
    2: (
        "{brand} {a} with {b}, {pack}",
        "{a} and {b}, {pack}",
        "{brand} kit for {a} and {b}",
        "{a} plus {b}, mixed",
        "Everything for {a} and {b}, {pack}",
        "{a} and {b} by {brand}",
        "{brand} {a} and {b}, hand-picked",
    ),
    3: (
        "{brand} bundle: {a}, {b} and {c}",
        "{a} with {b} and {c}, {pack}",
        "{a}, {b} and {c} by {brand}",
        "Starter set for {a}: {b} and {c}",
        "{brand} {a}, {b} and {c}, {pack}",
    ),
    4: (
        "{brand} hamper: {a}, {b}, {c} and {d}",
        "{a} and {b} with {c} and {d}, {pack}",
        "{brand} {a}, {b}, {c} and {d}",
        "Mixed crate: {a}, {b}, {c} and {d}",
    ),
}

LURES: dict[int, tuple[str, ...]] = {
    1: ("You will not believe this about {a}", "The shocking truth behind {a}", "{a}: doctors hate this trick"),
    2: (
        "This one trick with {a} changes {b} forever",
        "Nobody expected {a} to beat {b}",
        "Unbelievable: {a} and {b}",
        "What happened next with {a} and {b} stunned {who}",
    ),
    3: (
        "{a}, {b} and {c}: number two will shock you",
        "They lied about {a}, {b} and {c}",
        "Must see: {a}, {b} and {c}",
    ),
    4: ("{a}, {b}, {c} and {d}: nobody saw this coming", "Secrets of {a}, {b}, {c} and {d} revealed"),
}
"""Of clickbait, in video and news."""

STYLES: dict[str, dict[int, tuple[str, ...]]] = {"video": VIDEO, "news": NEWS, "shop": SHOP}

CHANGES: dict[str, tuple[str, ...]] = {
    "video": ("uncut", "reloaded", "revisited", "remastered", "live", "recap", "teaser", "again"),
    "news": ("updated", "corrected", "live", "analysis", "recap", "archive", "exclusive", "podcast"),
    "shop": ("refurbished", "used", "reissue", "clearance", "bestseller", "preorder", "imported", "sample"),
}
"""The word that a near-duplicate adds."""
