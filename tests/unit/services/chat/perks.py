"""Who asks, two documents, a question that one of them answers, and the answer."""

from services.chassis.auth import Caller, Role

ANNA = Caller("anna", "acme", roles=frozenset({Role.VIEWER}))
BERT = Caller("bert", "acme", roles=frozenset({Role.VIEWER}))
CLARA = Caller("clara", "acme", roles=frozenset({Role.CURATOR}))
TOM = Caller("tom", "acme", groups=frozenset({"raters"}), roles=frozenset({Role.CONTRIBUTOR}))
CHIEF = Caller("chief", "acme", roles=frozenset({Role.ADMINISTRATOR}))
STRANGER = Caller("anna", "other", roles=frozenset({Role.ADMINISTRATOR}))

PERKS = (
    "PerksPlus",
    (
        "Heading 1.\nPerksPlus covers up to $1,000 per year for gym memberships and yoga classes. Video games are not covered. "
        "Employees must submit receipts within 30 days. The programme is led by Maria Lopez from Lisbon."
    ),
)
CARS = ("Cars", "Heading 2.\nCompany cars are leased for 36 months. The fleet manager approves every lease in writing.")
QUESTION = "How much does PerksPlus cover per year for gym memberships?"
ANSWER = "PerksPlus covers up to $1,000 per year for gym memberships."
