"""How closely a bundle agrees with its net in fp32."""
