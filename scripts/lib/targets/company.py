"""Tryton for tests and the demo: a company that can post invoices.

    company.py CONFIGURATION DATABASE PASSWORD

The database is initialised and has the module account_invoice. What it gets: a company with a chart of accounts, fiscal
years, two currencies beside its own, a supplier, and the account `ledgerhook`, which may keep parties and invoices.
"""

import datetime
import sys
from decimal import Decimal

from trytond import config

config.update_etc(sys.argv[1])

from trytond.pool import Pool  # noqa: E402  the configuration comes first
from trytond.transaction import Transaction, TransactionError  # noqa: E402

CURRENCIES = (("GBP", "Pound sterling", "826", 2, "1"), ("EUR", "Euro", "978", 2, "1.15"), ("JPY", "Yen", "392", 0, "195"))
# Code, name, and the code of the account in Tryton's universal chart that it is like.
ACCOUNTS = (("5010", "Storage", "expense"), ("5020", "Handling", "expense"), ("5900", "Other purchases", "expense"),
            ("4000", "Sales", "revenue"), ("2100", "Suppliers", "payable"), ("1100", "Customers", "receivable"),
            ("2200", "Tax on invoices", "tax"))
# The fixtures are of 2026.
FIRST_YEAR = 2025
SUPPLIERS = (("sup_4410", "Harbour Freight & Logistics Ltd"),)
GROUPS = ("Accounting Administration", "Accounting", "Party Administration")


def provision(password):
    of = Pool().get
    today = datetime.date.today()

    Currency, Party, Company = of("currency.currency"), of("party.party"), of("company.company")
    currencies = Currency.create([
        {"code": code, "name": name, "symbol": code, "numeric_code": number, "digits": digits,
         "rounding": Decimal(1).scaleb(-digits),
         "rates": [("create", [{"date": datetime.date(2020, 1, 1), "rate": Decimal(rate)}])]}
        for code, name, number, digits, rate in CURRENCIES])
    buyer, = Party.create([{"name": "Ledgerhook Test Ltd", "addresses": [("create", [{"city": "London"}])]}])
    company, = Company.create([{"party": buyer.id, "currency": currencies[0].id}])

    User, Group = of("res.user"), of("res.group")
    mine = {"companies": [("add", [company.id])], "company": company.id}
    User.write([User(Transaction().user)], mine)
    groups = Group.search([("name", "in", GROUPS)])
    User.create([{"login": "ledgerhook", "name": "Ledgerhook", "password": password,
                  "groups": [("add", [group.id for group in groups])], **mine}])

    with Transaction().set_context(company=company.id, companies=[company.id]):
        chart(company)
        for year in range(FIRST_YEAR, today.year + 2):
            fiscal_year(company, year)
        Party.create([{"code": code, "name": name, "addresses": [("create", [{"city": "Felixstowe"}])]}
                      for code, name in SUPPLIERS])


def chart(company):
    of = Pool().get
    Account, Wizard = of("account.account"), of("account.create_chart", type="wizard")
    root, = of("account.account.template").search([("parent", "=", None)], limit=1)
    session, _, _ = Wizard.create()
    wizard = Wizard(session)
    wizard.account.company, wizard.account.account_template = company, root
    wizard.transition_create_account()

    def like(**wanted):
        conditions = [(f"type.{name}" if name != "name" else name, "=", value) for name, value in wanted.items()]
        return Account.search([("company", "=", company.id), ("type", "!=", None), ("closed", "!=", True), *conditions],
                              limit=1)[0]

    models = {kind: like(**{kind: True}) for kind in ("expense", "revenue", "payable", "receivable")}
    models["tax"] = like(name="Accrued Taxes (Other Than Payroll)")
    wizard.properties.company = company
    wizard.properties.account_receivable, wizard.properties.account_payable = models["receivable"], models["payable"]
    wizard.transition_create_properties()
    Wizard.delete(session)
    Account.create([{"code": code, "name": name, "company": company.id, "type": models[kind].type.id,
                     "reconcile": kind in ("payable", "receivable"), "party_required": kind in ("payable", "receivable")}
                    for code, name, kind in ACCOUNTS])


def fiscal_year(company, year):
    of = Pool().get
    Type, Sequence, Year = of("ir.sequence.type"), of("ir.sequence.strict"), of("account.fiscalyear")

    def sequence(name, kind, prefix):
        kind, = Type.search([("name", "=", kind)])
        return Sequence.create([{"name": f"{name} {year}", "sequence_type": kind.id, "company": company.id,
                                 "prefix": prefix, "padding": 5}])[0].id

    invoices = {f"{side}_{kind}_sequence": sequence(f"{side} {kind}", "Invoice", f"{prefix}{year}/")
                for side, kind, prefix in (("in", "invoice", "P"), ("in", "credit_note", "PC"),
                                           ("out", "invoice", "S"), ("out", "credit_note", "SC"))}
    values = {"name": str(year), "start_date": datetime.date(year, 1, 1), "end_date": datetime.date(year, 12, 31),
              "company": company.id, "move_sequence": sequence("moves", "Account Move", f"M{year}/"),
              "invoice_sequences": [("create", [{"company": company.id, **invoices}])]}
    Year.create_period(Year.create([values]))


if __name__ == "__main__":
    Pool.start()
    Pool(sys.argv[2]).init()
    # What it turns out to lock has to be known from a transaction's beginning: it is begun again until all is.
    locks, done = {}, False
    while not done:
        try:
            with Transaction().start(sys.argv[2], 1, **locks):
                provision(sys.argv[3])
            done = True
        except TransactionError as error:
            error.fix(locks)
