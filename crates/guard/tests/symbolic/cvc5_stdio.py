"""cvc5 as a program that reads SMT-LIB from its standard input and answers on its standard output, made of the
Python package `cvc5`, which has the solver as a library only. With `--version` it says which it is."""

import sys

import cvc5


def commands(lines):
    """Whole commands: lines put together until their parentheses close. Quoted text and comments hold
    parentheses that are none."""
    text, depth, quote = "", 0, None
    for line in lines:
        comment = False
        for char in line:
            if comment:
                continue
            if quote:
                quote = None if char == quote else quote
            elif char in '"|':
                quote = char
            elif char == ";":
                comment = True
            else:
                depth += (char == "(") - (char == ")")
        text += line
        if depth == 0 and quote is None:
            yield text
            text = ""


def solver():
    one = cvc5.Solver()
    one.setOption("tlimit-per", "30000")
    return one, cvc5.InputParser(one)


def main():
    one, parser = solver()
    if sys.argv[1:] == ["--version"]:
        print("cvc5", cvc5.__version__)
        return
    for text in commands(sys.stdin):
        if text.strip() == "(reset)":
            one, parser = solver()
            continue
        if text.strip() == "(exit)":
            return
        try:
            # One input a command: the parser keeps its symbols from one to the next.
            parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, text, "stdin")
            while not (command := parser.nextCommand()).isNull():
                said = command.invoke(one, parser.getSymbolManager())
                if isinstance(said, bytes):
                    said = said.decode()
                if said and said.strip() != "success":
                    print(said.rstrip("\n"), flush=True)
        except RuntimeError as error:
            print('(error "' + str(error).replace('"', "'").replace("\n", " ") + '")', flush=True)


main()
