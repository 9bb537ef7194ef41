"""How values are computed: the register machine that runs expressions over batches, and what all compiled code shares.

May touch: arrays of numbers, expressions, Arrow where there are texts.
Never: anything that is kept from one batch to the next.
"""
